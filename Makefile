# virtlab: `make demo` shows it, `make test` proves it. Both install what is missing.

CARGO ?= cargo
PREFIX ?= /usr/local
# Where systemd looks for units below a prefix.
UNITS = $(PREFIX)/lib/systemd
# Where cargo builds, asked for when it is needed.
TARGET = $(shell scripts/target-dir.sh)
BIN = $(TARGET)/debug/virtlab
RELEASE = $(TARGET)/release
SHARE = $(PREFIX)/share
# Where each shell looks for completions, below $(SHARE).
COMPLETIONS = bash:bash-completion/completions/virtlab zsh:zsh/site-functions/_virtlab \
	fish:fish/vendor_completions.d/virtlab.fish
SANDBOX := scripts/sandbox.sh

.PHONY: help demo test build check unit e2e e2e-full hosts bench fuzz sandbox install install-built install-units uninstall clean setup-%

help:             ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: setup-build,run,images build ## Bring up a lab of three nodes that ends in a healthy etcd cluster
	scripts/demo.sh

test: setup-build,run,images,test unit e2e ## Run every test, the ones with real guests in a sandbox

build:            ## Build the program (debug/virtlab in cargo's target folder)
	$(CARGO) build --locked

check:            ## Formatting, lints, documentation
	$(CARGO) fmt -- --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml -- --check
	$(CARGO) clippy --locked --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --locked --no-deps --document-private-items

unit:             ## Run the tests that need no guests
	$(CARGO) test --locked --no-fail-fast

e2e: build        ## Run the tests with real guests, in a sandbox
	$(BIN) image build micro
	CARGO="$(CARGO)" scripts/e2e.sh e2e

e2e-full: setup-page build ## The same, and the ones that take minutes: a whole Debian, a browser, killed at every call
	npm ci --prefix tests/page
	$(BIN) image build micro
	$(BIN) image build debian
	CARGO="$(CARGO)" scripts/e2e.sh e2e-full

hosts:            ## Try all that a new user does on plain Debian hosts, 12 and 13
	scripts/hosts.sh $(HOSTS)

bench:            ## Repeat the measurements of docs/performance.md
	scripts/bench.sh

fuzz:             ## Look for input that breaks something, ten minutes for each kind (cargo-fuzz, nightly)
	scripts/fuzz.sh

sandbox: build    ## A shell beside a libvirtd of its own; nothing is left when it ends
	PATH="$(TARGET)/debug:$$PATH" $(SANDBOX) bash

install:          ## Build for speed and install below $(PREFIX): program, man pages, completions, units
	$(CARGO) build --locked --release
	$(CARGO) build --locked --example man
	$(MAKE) install-built

# Nothing is built here, so that root needs no cargo.
install-built: install-units
	install -D -m 755 $(RELEASE)/virtlab $(DESTDIR)$(PREFIX)/bin/virtlab
	rm -rf $(RELEASE)/man && $(TARGET)/debug/examples/man $(RELEASE)/man
	install -d -m 755 $(DESTDIR)$(SHARE)/man/man1
	install -m 644 $(RELEASE)/man/*.1 $(DESTDIR)$(SHARE)/man/man1
	for shell in $(COMPLETIONS); do \
	    $(RELEASE)/virtlab completions $${shell%%:*} >$(RELEASE)/completion && \
	    install -D -m 644 $(RELEASE)/completion $(DESTDIR)$(SHARE)/$${shell#*:} || exit; \
	done
	install -D -m 644 -t $(DESTDIR)$(SHARE)/doc/virtlab LICENSE-APACHE LICENSE-MIT README.md CHANGELOG.md

install-units:    ## Install the systemd units that bring labs back with the host
	for owner in system user; do \
	    install -d -m 755 $(DESTDIR)$(UNITS)/$$owner && \
	    sed 's|/usr/local/bin|$(PREFIX)/bin|' systemd/$$owner/virtlab@.service > $(DESTDIR)$(UNITS)/$$owner/virtlab@.service && \
	    chmod 644 $(DESTDIR)$(UNITS)/$$owner/virtlab@.service || exit; \
	done

uninstall:        ## Remove what install put there
	rm -f $(DESTDIR)$(PREFIX)/bin/virtlab $(DESTDIR)$(UNITS)/system/virtlab@.service $(DESTDIR)$(UNITS)/user/virtlab@.service
	rm -f $(DESTDIR)$(SHARE)/man/man1/virtlab.1 $(DESTDIR)$(SHARE)/man/man1/virtlab-*.1
	rm -f $(addprefix $(DESTDIR)$(SHARE)/,$(foreach it,$(COMPLETIONS),$(word 2,$(subst :, ,$(it)))))
	rm -rf $(DESTDIR)$(SHARE)/doc/virtlab

clean:            ## Remove what was built here (images: virtlab image prune)
	$(CARGO) clean

comma := ,
setup-%:
	scripts/setup.sh $(subst $(comma), ,$*)
