"""What is counted, and how sure it is.

`rates` and `scores` count, `intervals` say how sure a rate is, `comparisons` and `changes` compare arms, `agreement`
judges, `pareto` settings; `calibration` makes probabilities of scores.
"""
