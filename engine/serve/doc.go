// Package serve is the core of the reward server: models, a queue, batches, limits, reload, drain and a probe. It knows
// no HTTP and no protocol; packages api and protocol translate to the requests here.
//
//	b, err := serve.OpenBackend(ctx, []string{"hf:yuvalkirstain/PickScore_v1"}, engine.Options{})
//	if err != nil {
//		return err
//	}
//	s := serve.New(b, serve.Options{})
//	defer s.Close()
//	result, err := s.Score(ctx, serve.ScoreRequest{Client: "trainer-3", Images: images, Texts: prompts})
//
// # From a request to a batch
//
// A request becomes items: a pair of picture and text, or a picture or a text to embed. Items that ask for the same
// thing are one unit of work, across requests too, from the time they wait until they are computed. Units wait in three
// lanes (pairs, pictures, texts), which share the device by the time that their batches took. Within a lane the client that
// was served least comes first: whoever has little to ask does not wait for those who ask much. All pairs of a picture in
// a request stay together, so that its tower runs once.
//
// A batch is formed when the backend has time for one: while it is busy, what arrives collects in the queue. While it is
// idle the first item waits Options.LatencyBudget at most, and only where company is likely: a request is being read, or
// one that was just answered may ask again. On a device that is not the CPU a second batch is computed as soon as it is
// full: its pictures are decoded while the device works on the first.
//
// # What cannot happen
//
// A request is refused at once where the queue is full, or where it could not be answered before its deadline
// (ErrOverloaded, with the time after which another try makes sense). Items whose requests have ended are dropped before
// work is done for them. A batch that fails, by an error or a panic, fails its own requests. A batch for which memory
// does not suffice is tried again in two halves. A picture that cannot be read costs itself.
//
// Scores are those of engine.ScorePairs, bit for bit: nothing is computed with them here.
//
// # Threads
//
// All methods of Server may be called from any goroutine. One mutex, Server.mu, guards the state of the queue: no picture is
// read, nothing is logged and the Observer is told nothing while it is held.
package serve
