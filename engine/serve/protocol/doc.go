// Package protocol speaks the languages of reward and inference clients. Each is a thin translation to serve.Server:
//
//	pickle.go       POST / and POST /{reward}: pickled dicts over HTTP (ddpo-pytorch, flow_grpo, deepgen_rl, verl-omni)
//	unirl.go        POST /score, GET /rewards, GET /health: UniRL's reward service
//	kserve_rest.go  /v2/...: the Open Inference Protocol (KServe, Triton), JSON and binary tensors
//	kserve_grpc.go  the same over gRPC
//	openai.go       POST /v1/embeddings: OpenAI's embeddings
//
// # What they share
//
// Pictures are encoded files (JPEG, PNG, WebP, GIF, BMP), found by their content; where a protocol has arrays, also pixels,
// u8 [H, W, C], which go to the engine without loss. Nothing is fetched from other hosts.
//
// Scores are those of the engine, rewritten in the convention (engine.Convention) that the request names (?scale=/26,
// ?scale=pickscore=/26, repeatable; in KServe the parameter "scale"), else in that of Options.Scales.
//
// A picture that cannot be read costs itself: its score is NaN (null in JSON, absent in UniRL) and an error beside the
// scores names it. Where no picture could be read, the request fails.
//
// A bad request is never answered with 500: flow_grpo and ddpo-pytorch repeat a request up to 1000 times on that. They
// and others wait as long as Retry-After says on 429 and 503, which always carry it.
package protocol
