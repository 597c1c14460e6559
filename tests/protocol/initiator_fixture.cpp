// Where the initiator's tests find catnapd. Owner: none. Left out: everything else (initiator_fixture.h).
#include "tests/protocol/initiator_fixture.h"

namespace catnap::protocol {

const char* server_program() { return CATNAP_SERVER; }

}  // namespace catnap::protocol
