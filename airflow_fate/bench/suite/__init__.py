"""What has been run of the standard suites, and what is still to run?"""
