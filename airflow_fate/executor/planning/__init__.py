"""Who decides where the held tasks go?"""
