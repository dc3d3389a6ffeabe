"""What do others learn of the device? Its published report, its metrics, and the facts of each reservation."""
