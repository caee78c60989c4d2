"""What every room may use: records, plain values, protocols, errors, the settings of the installation."""
