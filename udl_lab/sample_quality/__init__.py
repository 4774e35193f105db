"""How far a set of samples is from data, without weights from elsewhere, all in float64.

Every distance between two finite sets of the same law is above 0 or scatters about it: print the
distance between two sets of real data of the same sizes beside it.
"""
