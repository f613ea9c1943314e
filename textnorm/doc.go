// Package textnorm turns the rewards of an image for a prompt and its contrastive prompts into a calibrated confidence
// that the image shows the prompt: TextNorm of Kim et al., "Confidence-aware Reward Optimization for Fine-tuning
// Text-to-Image Models", ICLR 2024 (arXiv 2404.01863), as the authors coded it.
//
// The steps: [PromptSet] builds the list of texts, any model scores an image against all of them, [Calibrate] rescales
// the rewards and takes the softmax weight of the first text, [Mean] or [Penalised] joins several models, and [Choose]
// picks the softmax scale and the penalty by one of three protocols. The package knows nothing of models or images: a
// reward for language or speech is calibrated the same way.
//
// Shapes: B images, P texts of one prompt set. All functions are pure and safe from any goroutine.
package textnorm
