// Package api is the reward server's HTTP: listeners that nobody can hold open, what stands before every request
// (keys, limits, deadlines, traces, logs), the status of every kind of error, the native JSON under /v1, the OpenAPI
// document, and the admin listener. What computes is package serve; other protocols give their Routes.
//
//	h := api.Handler(server, cfg, protocol.Routes(server, opt)...)
//	l, err := api.Listen(cfg.Listen, h, cfg)
//	if err != nil {
//		return err
//	}
//	go l.Serve()
//	...
//	server.Drain(ctx) // answers what was accepted; refuses the rest with 503
//	l.Shutdown(ctx)
//
// # The way of a request
//
// A connection has time limits of its own: for the headers, for the whole request, for taking the answer, and for doing
// nothing. Handler then gives the request an identifier (X-Request-Id, the client's where it sent a plain one), finds
// its route, asks for a key unless the route is Public, takes its deadline (X-Timeout-Ms), and refuses a body that is
// announced as larger than Config.MaxBodyBytes before a byte of it is read. Route handlers read it with ReadBody, which
// counts what all requests hold against Config.MaxBodyBytesAll. At its end a request is one line of the log, without
// bodies, query or keys, and one count in the metrics.
//
// # Errors
//
// Status has the one table of statuses: never 5xx for a bad request, 429 and 503 with Retry-After. WriteError writes
// {"error": {"message", "code"}}; code is one of Code's words. An error of no known kind is a fault of this program:
// 500, its text goes to the log and not to the client.
//
// # JSON
//
// Bodies are decoded by go-json-experiment/json, the encoding/json/v2 of Go's authors: it refuses invalid UTF-8,
// repeated names and names in another case, says where an error is, and reads long strings several times as fast as
// encoding/json does. Before that one pass over the bytes bounds depth and number of values, so that a small body
// cannot become large memory. Numbers that are not finite are written as null.
package api
