"""The service beside the servers one would otherwise take: ``make bench``.

A client of our own sends what a workload draws, at Poisson arrivals, to one server after the other, each pinned to the
same core and running the same checkpoint; every measurement is a line in a journal, from which the page is written.
"""
