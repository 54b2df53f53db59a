"""The command line: a door. It parses arguments, prints, and turns errors into exit codes; it decides nothing else."""
