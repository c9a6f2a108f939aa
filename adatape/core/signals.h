// Ctrl-C and SIGTERM as a flag that loops look at between steps.
#pragma once

namespace adatape {

// Installs handlers: the first signal raises the flag, a second one ends the process at once.
void install_stop_handlers();
bool stop_requested();
int stop_signal();    // the number of the signal that came first; 0: none came
void request_stop();  // as if a signal had come (tests)
void clear_stop_request();

}  // namespace adatape
