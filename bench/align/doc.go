// Package align measures how well rewards agree with people on the sets of TIA2 and its like.
//
// [ScoreSet] lets models fill a file of scores, [Evaluate] turns scores and human labels into a [Report], and the report
// writes itself as JSON, as a table ([Report.WriteTable]) and as a picture of best-of-n curves ([Report.WritePlot]).
//
// For every reward NAME the report has the raw score and, under NAME_textnorm, its TextNorm confidence; with two or more
// rewards also the ensembles textnorm_mean and textnorm_ur (uncertainty-penalised). Every figure is taken within a
// prompt, over its images, and then averaged over prompts: scores of different prompts are never compared. Prompts whose
// images are all of one class say nothing about ranking and are left out, as in the published figures. Intervals and
// tests take the prompts as the sample.
package align
