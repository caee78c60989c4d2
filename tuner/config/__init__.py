"""What the user writes, and its checked values: study files, spaces, fidelity, initial settings, the YAML reader."""
