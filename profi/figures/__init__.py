"""The paper's figures, each a command: what is painted or read, the rule of selection, the layout.

A figure is an entry of the catalogue: a function from a `FigureContext` to a `Drawing`.
"""
