"""What makes the pods of a node run, when containers are processes of this machine?"""
