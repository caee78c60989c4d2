"""Where runs train: in this process, or on Ray. Which runs, and what comes of them, is not known here."""
