"""The work itself: the cells of one item, trained, scored and recorded in one process, without Ray."""
