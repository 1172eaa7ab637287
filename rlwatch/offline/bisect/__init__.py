"""`rlwatch bisect`: which commit made a metric worse?"""
