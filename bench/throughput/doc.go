// Package throughput measures how fast a model runs on this machine and compares two such measurements.
//
// [Measure] runs one tower of an open model again and again, after a warm-up, until the median of its run time is known
// to within a few percent or the time is up. It reports medians, percentiles, items a second, the arithmetic of one item
// (from the architecture, not from what the kernels happened to do), and which part of the machine's peak that is. A
// [Report] collects the runs with a description of the machine, the engine and, where asked for, the alignment of the
// models; it is the JSON document of `tia2-engine bench`. [Compare] sets a report against an older one and tells a
// change from noise.
//
// Towers:
//
//	image  preprocessed pixels to embeddings, and of a cross encoder to the states that it reads
//	text   token ids to embeddings
//	file   encoded pictures to embeddings: decode, resize and the image tower
//	pair   pixels and token ids to scores of all pairs of a batch of images and a set of texts
//	e2e    encoded pictures and strings to scores: all the work of one call of Score
//
// A cross encoder (BLIP, BLIP-2, ImageReward) is measured with 1, 8 and 33 texts an image in pair, which is the work of
// image and then that of the pairs: the ratio of both times is in the remarks of a report. A tower that a model does not
// have is left out with a note: text and file without embeddings (ImageReward), all of an aesthetic head.
//
// Inputs are the same on every machine: made from fixed seeds, texts in the manner of TIA2's prompt sets. Every
// call does all of the work of its tower: no embedding is kept from one call to the next.
//
// Nothing here may run at the same time as another measurement in the same process; the functions hold no state.
package throughput
