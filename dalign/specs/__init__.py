"""The configuration as types: what each Hydra group may say, without torch, so that checking it takes no time.

A YAML names its class with ``_target_``; the class is the schema. Heavy objects are built from specs inside the stages.
"""
