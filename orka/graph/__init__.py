"""Graph files: from YAML to frozen node data that passed every check. How a graph runs is `orka.engine`'s business."""
