"""The base of all paths of the API: declaring, checking and answering requests, and the service behind them."""
