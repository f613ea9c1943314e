// Package engine scores pictures against prompts with the reward models of the field: CLIP, PickScore, HPSv2, BLIP,
// BLIP-2, ImageReward and LAION's aesthetic predictors.
//
// Open a model, embed or score, close:
//
//	m, err := engine.Open(ctx, "hf:openai/clip-vit-base-patch32", engine.Options{})
//	if err != nil {
//		return err
//	}
//	defer m.Close()
//	rewards, err := m.Score(ctx, []engine.Image{engine.File("cat.jpg")}, []string{"a cat", "a dog"})
//
// Tokens, pixels, embeddings and rewards are those of the Python reference that the checkpoint was made with: OpenAI's CLIP,
// open_clip, Hugging Face transformers, BLIP, LAVIS or ImageReward.
//
// # Kinds of models
//
// A dual encoder (CLIP, and the half of BLIP and BLIP-2 called itc) embeds pictures and texts apart: each once, however
// many pairs there are. A cross encoder (ImageReward, and the half called itm) reads a picture and a text together: a
// picture is encoded once and then costs something for each text. Score does what each model takes; function Score takes
// several, and prepares pictures for all of them together. What programs do differently with one and the same checkpoint
// (the first token of a pair, where texts are cut, how they are cleaned) is in Options.
//
// # Threads
//
// All methods and functions may be called from any goroutine. Calls of all models of a device queue for it batch by batch, on
// one OS thread that package engine keeps; its kernels use Options.Threads cores. On the CPU pictures are decoded between two
// batches, since both need its cores; on other devices by other goroutines meanwhile. A context that ends stops a call
// between two batches.
//
// # Errors
//
// A picture that cannot be read fails alone: the call returns the results of the others, NaN for the failed, and an
// error that is ItemErrors (see SplitItemErrors). Any other error ends the call. errors.Is tells the kind: ErrInvalid,
// ErrModel, ErrMemory, ErrBackend, ErrImage, ErrClosed.
package engine
