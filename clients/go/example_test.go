package client_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	client "github.com/tia2-engine/tia2-engine/clients/go"
)

func Example() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // stands for tia2-engine serve
		io.WriteString(w, `{"rewards":{"clip":[27.5,null]},"pairs":[[0,0],[1,0]],"errors":[{"image":1,"message":"not a picture"}]}`)
	}))
	defer server.Close()

	c := client.New(server.URL)
	scores, err := c.Score(context.Background(), client.ScoreRequest{
		Images: [][]byte{[]byte("…a PNG…"), []byte("…something else…")},
		Texts:  []string{"a red circle"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(scores.Rewards["clip"])
	for _, e := range scores.Errors {
		fmt.Println(e)
	}
	// Output:
	// [27.5 NaN]
	// image 1: not a picture
}
