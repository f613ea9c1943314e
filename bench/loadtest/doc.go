// Package loadtest puts a reward server under load and says what it bears: how long answers take, how many come within a
// service level, which requests are refused, lost or answered wrongly, and the highest rate that holds the level.
//
// [Run] sends requests of a [Workload] (pictures and texts) over one of the protocols that the server speaks:
//
//	json    POST /v1/score, the native one
//	pickle  POST /REWARD, pickled dicts as RL code sends them
//	kserve  POST /v2/models/REWARD/infer, the Open Inference Protocol
//
// An open loop sends at its rate whatever the server does, at equal distances or as a Poisson process, from a fixed
// seed; a latency counts from the moment when the request was due, so that a server that stalls is not spared the
// requests that it held up. A closed loop keeps a number of requests under way. The connections, workers and digests of
// latencies are those of vegeta.
//
// Latencies are those of whole, right answers; a refusal, however fast, is none, but counts against the service level as
// an answer that never came. So "99 % within the SLO" is a statement about everything that was sent.
//
// Answers can be compared with expected scores ([Expected], or a first pass that scores each pair alone). A share of bad
// requests (broken pictures, decode bombs, hostile pickles, bodies that are announced and not sent, ...) can be mixed in:
// each must be answered as its kind demands, and must not disturb the others.
package loadtest
