"""The stages of train.py: each reads artifacts, does its work in a locked folder, and leaves a manifest."""
