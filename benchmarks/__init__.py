"""One benchmark answers one question; each prints n, median, spread and the peer of the same run."""
