"""What a network computes inside: forward hooks that leave no trace, and what is kept of it.

`recorder` watches forwards, `tap` and `unseen` are for what hooks miss. Reducers (`distances`,
`variance`, `costs`, `moments`, `reservoir`) turn activations into numbers as they come, and
`merging` those of several processes into one; `store` puts activations on disk.
"""
