"""Scoring a policy in a simulator: environments, lockstep episodes, reference scores, pictures.

This folder knows simulators and the `Policy` protocol. It deliberately knows no model, no dataset and no
training.
"""
