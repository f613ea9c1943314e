// Package client asks the reward server of tia2-engine (`tia2-engine serve`) for scores, TextNorm confidences and
// embeddings over its native JSON protocol. It needs nothing but the standard library, no cgo and no model.
//
//	c := client.New("http://127.0.0.1:8080")
//	scores, err := c.Score(ctx, client.ScoreRequest{Images: [][]byte{png}, Texts: []string{"a red circle"}})
//	fmt.Println(scores.Rewards["pickscore"][0])
//
// Pictures are encoded files: JPEG, PNG, WebP, GIF or BMP. One that cannot be read costs itself: its scores are NaN, and
// an [ItemError] names it.
//
// A request is repeated when the server had too much to do (429, 503), after the time that it asks for, and when the
// connection failed; never when the server finds the request bad, nor when the time was up.
package client
