"""The service. One behaviour, one file; `app.py` finds them."""
