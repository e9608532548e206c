"""Rules: conditions over a payment, its features and its score, which decide beside the model.

`language` reads an expression, `to_python` and `to_trino` make of it what serving evaluates and what a backtest asks;
`catalogue` has the names that rules know, `facts` their values for one payment.
"""
