# make            builds bin/tia2-engine
# make bench      sets up, builds and runs the benchmark on the embedded model and set
# make test       sets up, builds and runs all tests
# make clients    the tests of the Python client, in a venv (part of make test; needs python3 with venv)
# make lint       checks the rules of CONTRIBUTING.md that a script can check
# make asan       the tests under the address sanitizer, and Go's under its race detector and cgo checks
# make neon       development: the NEON kernels under qemu (Debian: qemu-user-static g++-aarch64-linux-gnu)
# make parity     development: full-size models against the Python references (makes a venv); ARGS="--list"
# make peers      development: measured beside OpenVINO, ONNX Runtime and PyTorch (makes a venv); ARGS="--list"
# make clean      removes what was built

SHELL := /bin/bash
BUILD := build
JOBS  := $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)

# cgo links $(BUILD)/lib/libtia2.a, which Go's cache does not hash: a rebuilt library must count as a change. So the link
# flags name a folder after its checksum. (A -D is not enough: the objects stay the same, and so does the cached program.)
GO_ENV = CGO_LDFLAGS="-L$(CURDIR)/$(BUILD)/lib -L$(CURDIR)/$(BUILD)/lib/$$(cksum < $(BUILD)/lib/libtia2.a | cut -d' ' -f1) \
         $$(cat $(BUILD)/cgo_ldflags) $(SANITIZE_LDFLAGS)"
GO = $(GO_ENV) go

# Vulkan in software (Mesa's lavapipe) is hidden by ggml unless it is named; the tests use it where there is no GPU.
TEST_ENV = GGML_VK_VISIBLE_DEVICES=$${GGML_VK_VISIBLE_DEVICES-0}

.PHONY: build bench test lint asan neon parity peers clean setup native clients

build: native
	@mkdir -p bin
	@$(GO) build -trimpath -o bin/tia2-engine ./cmd/tia2-engine

setup:
	@third_party/install.sh

native:
	@cmake -S . -B $(BUILD) -G Ninja $(CMAKE_FLAGS) -Wno-dev > $(BUILD)-cmake.log 2>&1 || { cat $(BUILD)-cmake.log; exit 1; }
	@rm -f $(BUILD)-cmake.log
	@cmake --build $(BUILD) -j $(JOBS)

bench: setup build
	bin/tia2-engine bench

test: setup build
	$(BUILD)/bin/tia2_check
	@echo "go vet, go test"
	@$(GO) vet ./...
	@$(TEST_ENV) $(GO) test -count=1 ./...
	@echo "go test -race"
	@$(TEST_ENV) $(GO) test -count=1 -race -short ./cgo/... ./engine/... ./bench/...
	@echo "go test with cgocheck2"
	@GOEXPERIMENT=cgocheck2 $(TEST_ENV) $(GO) test -count=1 -short ./cgo/... ./engine
	@$(MAKE) --no-print-directory clients
	@$(MAKE) --no-print-directory lint

clients:
	@clients/python/test.sh

asan:
	@$(MAKE) --no-print-directory native BUILD=build-asan CMAKE_FLAGS=-DTIA2_SANITIZE=ON
	build-asan/bin/tia2_check
	@echo "go test -asan"
	@$(MAKE) --no-print-directory go-asan BUILD=build-asan SANITIZE_LDFLAGS="-fsanitize=address,undefined"

.PHONY: go-asan
go-asan:
	@$(GO) test -count=1 -short -asan ./cgo/... ./engine

lint:
	@.ci/lint $(BUILD)

neon:
	@kernels/test/neon.sh $(BUILD)-neon

parity: build
	@$(GO_ENV) bench/parity/run.sh $(ARGS)

peers: build
	@bench/peers/run.sh $(ARGS)

clean:
	rm -rf build build-asan build-neon bin
