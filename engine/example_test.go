package engine_test

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"log"

	"github.com/tia2-engine/tia2-engine/engine"
)

// A service opens a model once and then scores what comes in, from as many goroutines as it likes. The embedded model
// knows little more than coloured shapes: name a checkpoint in its place.
func Example() {
	ctx := context.Background()
	model, err := engine.Open(ctx, "demo", engine.Options{Backend: "cpu", CacheDir: engine.CacheOff})
	if err != nil {
		log.Fatal(err)
	}
	defer model.Close()
	images := []engine.Image{{Name: "red.png", Data: square(color.RGBA{R: 220, A: 255})}, {Name: "blue.png", Data: square(color.RGBA{B: 220, A: 255})}}
	texts := []string{"a red square", "a blue square"}
	rewards, err := model.Score(ctx, images, texts)
	if err != nil {
		log.Fatal(err) // engine.ItemErrors where single pictures cannot be read
	}
	for i, img := range images {
		row := rewards[0].Scores[i*len(texts) : (i+1)*len(texts)]
		fmt.Printf("%s: prefers %q: %v\n", img.Name, texts[i], row[i] > row[1-i])
	}
	// Output:
	// red.png: prefers "a red square": true
	// blue.png: prefers "a blue square": true
}

// Several models score the same pictures, each of which is read once. The aesthetic head takes the embeddings of the CLIP
// beside it.
func ExampleScore() {
	ctx := context.Background()
	var models []*engine.Model
	for _, spec := range []string{"ImageReward.pt", "model_large_retrieval_coco.pth", "hf:openai/clip-vit-large-patch14", "sac+logos+ava1-l14-linearMSE.pth"} {
		m, err := engine.Open(ctx, spec, engine.Options{ITMToken: "enc", Shared: true})
		if err != nil {
			log.Fatal(err)
		}
		defer m.Close()
		models = append(models, m)
	}
	rewards, err := engine.Score(ctx, models, []engine.Image{engine.File("cat.jpg")}, []string{"a cat", "a dog"})
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range rewards { // imagereward, blip_itc, blip_itm, clip, aesthetic
		fmt.Println(r.Name, r.Scores)
	}
}

// In training each picture has a prompt of its own.
func ExampleScorePairs() {
	ctx := context.Background()
	model, err := engine.Open(ctx, "demo", engine.Options{Backend: "cpu", CacheDir: engine.CacheOff})
	if err != nil {
		log.Fatal(err)
	}
	defer model.Close()
	images := []engine.Image{{Name: "red.png", Data: square(color.RGBA{R: 220, A: 255})}, {Name: "blue.png", Data: square(color.RGBA{B: 220, A: 255})}}
	texts := []string{"a red square", "a blue square"}
	pairs := []engine.Pair{{Image: 0, Text: 0}, {Image: 1, Text: 1}, {Image: 1, Text: 0}}
	rewards, err := engine.ScorePairs(ctx, []*engine.Model{model}, images, texts, pairs)
	if err != nil {
		log.Fatal(err)
	}
	scores := rewards[0].Scores
	fmt.Println(rewards[0].Name, len(scores), scores[1] > scores[2])
	// Output:
	// clip 3 true
}

// square draws a PNG file: a square on white.
func square(c color.Color) []byte {
	img := image.NewRGBA(image.Rect(0, 0, 64, 64))
	draw.Draw(img, img.Rect, image.White, image.Point{}, draw.Src)
	draw.Draw(img, image.Rect(20, 20, 44, 44), image.NewUniform(c), image.Point{}, draw.Src)
	var file bytes.Buffer
	if err := png.Encode(&file, img); err != nil {
		log.Fatal(err)
	}
	return file.Bytes()
}
