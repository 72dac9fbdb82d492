"""Folders that `zoobench save` writes, as data: what their files may say, and the scripts in them.

description.py   predict.json, checked before anything is built
scripts/         what becomes predict.py, one a library; the models are built by these here
"""
