"""The user study of appendix D: make one, serve it, report its votes.

`folder` says what a study is, `create` makes one from painted runs, `votes` keeps the answers,
`pages` are what a browser sees and `server` serves them, `analysis` computes the statistics and
`report` writes them.
"""
