"""Coverage-guided fuzzing of what comes from outside: `make fuzz`.

`targets.py` says what is fed and what may come of it; `__main__.py` lets atheris feed it.
"""
