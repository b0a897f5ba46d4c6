"""The live page: one sees the token, the secrets, the threads and the requests of an application as they live.

Two processes: the application, to which a listener is added that feeds the page (`application.py`, `feed.py`), and its
parent, which serves the page (`page.py`) from what it hears (`board.py`).
"""
