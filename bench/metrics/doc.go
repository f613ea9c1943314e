// Package metrics measures how well a score ranks labelled items, with the definitions of scikit-learn and scipy (the
// tests hold every function to their values within 1e-9), and says how sure such a figure is.
//
// Ranking metrics take one score an item, higher is better, and its label, in the same order. Ties count as ties: no
// result depends on the order of the items, apart from [APAt] when equal scores straddle its cut. A NaN among the
// scores, or a figure that the definition leaves open (a single class, a constant), gives NaN, never an error;
// slices of unequal length panic, as they do in gonum.
//
// All functions are pure; those that draw random numbers take a seed and give the same bits for the same seed.
package metrics
