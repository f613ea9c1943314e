// Package engine scores pictures against prompts with CLIP-like reward models.
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
// Tokens, pixels and embeddings are those of the Python reference that the checkpoint was made with: OpenAI's CLIP,
// open_clip or Hugging Face transformers.
//
// # Threads
//
// All methods may be called from any goroutine. Calls of all models of a device queue for it batch by batch, on one OS
// thread that package engine keeps; its kernels use Options.Threads cores. On the CPU pictures are decoded between two
// batches, since both need its cores; on other devices by other goroutines meanwhile. A context that ends stops a call
// between two batches.
//
// # Errors
//
// A picture that cannot be read fails alone: the call returns the results of the others, NaN for the failed, and an
// error that is ItemErrors (see SplitItemErrors). Any other error ends the call. errors.Is tells the kind: ErrInvalid,
// ErrModel, ErrMemory, ErrBackend, ErrImage, ErrClosed.
package engine
