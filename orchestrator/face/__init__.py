"""The software from Python and notebooks: running studies, and their records as tables.

``import orchestrator as mo`` gives what people need of it; the command line finds studies by it too.
"""
