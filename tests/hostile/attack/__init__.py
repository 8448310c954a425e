"""The attack that stays: wrong inputs, mutated files, kills, signals and full disks, against every verb.

`make hostile` runs all of it and prints its figures; `make test` a sample (`test_attack.py`). Each command runs in a
fork of one process that has loaded the libraries, so that a case costs what the verb does, and no imports.
"""
