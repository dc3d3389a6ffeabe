"""What do the runs of the standard suites say? Tables and pictures for people."""
