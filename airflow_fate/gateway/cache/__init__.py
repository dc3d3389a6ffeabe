"""What lies in the engine's prefix cache, and what is it worth?"""
