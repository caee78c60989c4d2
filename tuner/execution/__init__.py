"""Executors: where runs train, in this process or on Ray. Which run comes next is not decided here."""
