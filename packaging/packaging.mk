# SPDX-License-Identifier: GPL-2.0-or-later
#
# From a program to something that can be handed on; part of the Makefile. docs/packages.md
# says what is in each, and why.
#
#   make install     into $(DESTDIR)$(PREFIX); uninstall takes it away again
#   make deb         a package for Debian, in build/deb
#   make bundle      build/lguest-VERSION-x86_64.tar.xz: runs where there is nothing else
#
# Both packages are the same bytes wherever and whenever they are made of the same source with
# the same tools.

PREFIX	?= /usr/local
ROOT	 = $(DESTDIR)$(PREFIX)

.PHONY: install uninstall deb bundle

install: $(BUILD)/lguest
	@packaging/install $< "$(ROOT)"
	@echo "installed: $(ROOT)/bin/lguest"

uninstall:
	@packaging/install --remove "$(ROOT)"

# Out of a copy of the tree, which stays as it is.
deb:
	@scripts/deps build deb
	@packaging/deb

bundle:
	@scripts/deps build bundle
	@$(MAKE) --no-print-directory all $(BUILD)/bundle/lguest $(BUILD)/bundle/starter
	@packaging/bundle $(BUILD) $(VERSION) "$(CC)"

# The objects are those of build/lguest. DT_RPATH, the old kind: it holds for the libraries of
# libraries as well, and nothing in the environment goes before it.
$(BUILD)/bundle/lguest: $(BUILD)/main.o $(LIBRARY)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -Wl,-rpath,'$$ORIGIN' -Wl,--disable-new-dtags -o $@ $^ $(LIBS)

$(BUILD)/bundle/starter: packaging/starter.c
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -O2 $(WARN) -D_GNU_SOURCE -static -o $@ $<
