"""Strategies as TOML documents: the rule language of `docs/rules.md`.

`read_document` reads one, `check_document` vets it, `RuleDefinition` fixes its parameters, `describe` says in words
what it does. Nothing here knows orders or money: the answer is advice, as of any other strategy.
"""
