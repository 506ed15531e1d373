"""The user study of appendix D: make one, serve it, report its votes.

`folder` says what a study is, `create` makes one from painted runs, `votes` keeps the answers,
`server` shows the pages, `analysis` computes the statistics and `report` writes them.
"""
