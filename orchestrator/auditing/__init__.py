"""Do the numbers of a study follow from its predictions, and did its search see validation alone?"""
