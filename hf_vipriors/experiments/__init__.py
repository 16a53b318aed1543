"""Tables of results: every run of a table, several seeds each; the quickstart is one of them."""
