// NetnsNames: the values of the label `netns`, by a small number that group keys carry.
//
// One number a label: the series of a namespace that went are taken up by the next of its name. A
// number is used for another label when nobody uses it any more. Not thread-safe: the sampler's
// thread only.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "collectors/attribution/groups.h"

namespace tcpvitals {

class NetnsNames {
 public:
  NetnsNames();

  NetnsId id_of(const std::string& label);  // a new one, if need be
  const std::string& name(NetnsId id) const { return names_[id]; }

  // Gives back every number of another namespace than ours of which used(id) is false.
  void retain(const std::function<bool(NetnsId)>& used);

 private:
  std::vector<std::string> names_;  // by NetnsId; empty: free
};

}  // namespace tcpvitals
