"""From what was asked to what is stored: the workload is imported, recipes and earlier studies are looked up."""
